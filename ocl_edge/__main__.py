from ocl_edge_app.cli import main

main()
