from vos_ros.segmentation.methods.null import segmenter as segmenter  # registers the method
