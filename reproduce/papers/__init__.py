"""What a paper printed and claims, and what our records say beside it."""
