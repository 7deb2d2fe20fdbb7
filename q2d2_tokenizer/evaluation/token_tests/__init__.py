"""What tokens carry, how stable they are, and how easily they are modelled."""
