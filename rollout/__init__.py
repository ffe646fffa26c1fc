"""Protocols, the machine that runs them, engines, and the actor that hosts both."""
