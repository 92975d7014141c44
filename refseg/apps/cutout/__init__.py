"""Cut-outs with soft edges, and pictures edited by them: blurred, on another background, without the thing."""
