"""What pages show, as values made of the picture and the time: nothing here knows HTML or HTTP."""
