"""What a photo's label rests on, in a picture and in words."""
