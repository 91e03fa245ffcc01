"""A pickle that runs code when it is loaded."""

import os


class Program:
    """What a pickle can hold instead of data: it makes a folder when it is loaded."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)
