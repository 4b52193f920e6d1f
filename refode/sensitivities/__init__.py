"""The ways to one gradient, one file and one equation each.

A way takes a solved trajectory and the loss's cotangents dL/dz(t_i), and returns a `Sweep`; `refode.adjoint` makes the
`Gradient` of it, the same for all. Note: §2.2.
"""
