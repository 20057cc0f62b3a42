-- ARGV[1] is one JSON document of named arguments. Texts that are stored byte for byte follow it.
local arguments = cjson.decode(ARGV[1])
