"""Reads a network and never trains it: shapes, costs and receptive fields, with the sums behind them."""
