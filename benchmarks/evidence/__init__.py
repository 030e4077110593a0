"""`make evidence`: named pieces, each measured, kept as a result, and drawn where a picture says it best."""
