"""The learner: model, forward passes over forests, objective, optimizer, ranks."""
