"""What the operator's commands do: doctor, dead letters, topology report, follow, demo."""
