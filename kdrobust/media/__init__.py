"""Files of images and recordings, read as arrays. No torch."""
