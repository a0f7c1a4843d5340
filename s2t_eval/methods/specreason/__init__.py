"""SpecReason: the student drafts steps of reasoning, and the teacher accepts or rewrites them."""
