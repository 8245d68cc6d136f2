"""What is settled about the arms of a sweep before any of its runs is trained."""
