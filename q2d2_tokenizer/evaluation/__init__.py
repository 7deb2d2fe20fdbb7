"""How good a codec is: metrics, peers, tables and pages."""
