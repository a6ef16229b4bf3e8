"""The only code that changes weights: `fit.fit` is the loop, the rest is what it is made of."""
