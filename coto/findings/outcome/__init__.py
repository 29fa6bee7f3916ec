"""What came of a run: its main claims in words, on one screen, and in one picture."""
