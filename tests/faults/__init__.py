"""What must not hurt the app: collectors away or hanging, workers killed, forks at the wrong moment."""
