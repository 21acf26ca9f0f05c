from vos_ros.segmentation.methods.meta import segmenter as segmenter  # registers the method
