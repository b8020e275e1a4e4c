s/.*/replaced/
