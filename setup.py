"""For ``pip install .``: training and evaluation without ROS. Everything is said in pyproject.toml; ROS builds use CMakeLists.txt."""

from setuptools import setup

setup()
