"""The pedicle guide: where screws may go through a vertebra, and the guide that leads the drill there."""
