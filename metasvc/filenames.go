package metasvc

// MapFile is the name of the node's copy of the map in its directory.
const MapFile = "map"
