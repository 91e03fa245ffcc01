"""A trained model in use: from an image and a sentence to a mask, and the published evaluation."""
