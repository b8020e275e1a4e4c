printf '10%%\r50%%\r100%%\ndos\r\n'
