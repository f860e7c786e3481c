"""The fast exact method: a structured interior-point method inside branch and bound."""
