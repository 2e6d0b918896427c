"""How far off may the drill or the saw be at its target: clearance, process, bone, seating and plan, sampled together."""
