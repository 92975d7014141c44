"""Every phrase of a list on every picture: labelled instances, semantic maps, COCO files."""
