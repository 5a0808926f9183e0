"""Models trained again and again on what they made: agents, policies, the loop, what is watched, and an alarm that rings early and rarely wrongly."""
