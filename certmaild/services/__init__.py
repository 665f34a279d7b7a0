"""The service addresses, devices@ and its like: what people command by mail, and the folders that the server keeps."""
