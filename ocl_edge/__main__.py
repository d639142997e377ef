from ocl_edge.cli import main

main()
