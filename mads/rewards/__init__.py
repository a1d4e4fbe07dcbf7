"""Feedback from the model: how much each category lowers the loss on reference tasks.

tasks (items to predict) -> direction (where the parameters should go) -> estimators (each probed
document's reward) -> categories (means and standard errors per category)
"""
