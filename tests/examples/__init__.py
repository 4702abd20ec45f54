"""The example app is what it says it is, and so is its demo."""
