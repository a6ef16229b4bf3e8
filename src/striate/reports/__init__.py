"""What is known of a run or of several as one HTML file that needs nothing else: plain data in, text out."""
