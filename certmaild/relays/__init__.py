"""Mail programs that fetch through their maker's cloud, password and mail included (PRODUCT T9)."""
