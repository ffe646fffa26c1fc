"""The task of a judge: to say of each step of a solution whether it is right."""
