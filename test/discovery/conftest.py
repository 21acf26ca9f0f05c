"""Fixtures of the discovery tests."""

from support.boxes import camera, cut_boxes, kitchen, make_box, table_top

__all__ = ["camera", "cut_boxes", "kitchen", "make_box", "table_top"]
