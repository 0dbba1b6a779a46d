@main struct Racetrack { static func main() {} }
