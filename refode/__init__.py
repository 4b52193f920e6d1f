"""refode: Neural ODEs from the note, executable."""

__version__ = "0.1.0"
