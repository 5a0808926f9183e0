"""The lab: a small world of drawn scenes whose truth is known, so that what a text-to-image method claims can be proven without a network."""
