"""Figures for lectures: one module a figure, each of which claims something and draws the numbers that show it.

`python -m figures list` says what there is. In a script of one's own, or with a style sheet of one's own:

    from figures import adjoint_jumps
    from figures._styles import style

    with style("light", "half"):
        adjoint_jumps.draw()
"""
