"""The ways to one gradient, one file and one equation each.

A way takes a solved trajectory and the loss's cotangents dL/dz(t_i), and returns a `Sweep`; `refode.adjoint` makes the
`Gradient` of it, the same for all. What the reverse solves share stands in sweep.py; error.py says how wrong a gradient
is, with witness.py for a second opinion. taped.py is the discrete way once more, at full speed, through a solve of its
own. Note: §2.2.
"""
