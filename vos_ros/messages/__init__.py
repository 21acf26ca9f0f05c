"""Every ROS message is built and read once, here, without ROS.

A builder is a function ``*_message(make, ...)`` of plain values. ``make`` (``factory.MakeMessage``)
makes one message of a type: ``factory.make`` gives rosbags' classes,
``vos_ros.ros.common.message_factory.make`` those of rclpy. A reader looks only at the fields of a
message, so that it takes both kinds.
"""
