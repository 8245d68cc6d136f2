"""What a user of ``launch.py sample`` and ``Model.generate`` gets: texts as they are written, and records of them."""
