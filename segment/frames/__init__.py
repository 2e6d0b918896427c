"""A bone's own frame, and the points, planes and axes on it that people name.

All frames are the patient's own way round: x to the left, y to the back, z to the head, as near as the bone allows. The axes
of the International Society of Biomechanics are these in other words: X (front) = -y, Y (up) = z, Z (right) = -x.
"""
