"""Prompts by the thousand, a skill at a time: who writes them (offline grammar, chat endpoint, local text model), what is refused, what is kept."""
