"""Label sets, and the training of selectors, routers, distilled and looped students. Works on token ids."""
