"""The manager of Demand Flexibility Programs."""
