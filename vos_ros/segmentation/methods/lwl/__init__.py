from vos_ros.segmentation.methods.lwl import segmenter as segmenter  # registers the method
