"""What a trained method needs to decode: its folder, and Think-at-Hard's own step."""
