"""The five problems of the work-precision table, and each library's way to their gradients, a module a library."""
