"""Labels whole folders of photos: is the person happy or sad?"""
